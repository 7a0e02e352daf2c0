"""CloudFormation's state machines, small: what a failed, destroyed or re-created stack leaves behind.

Modelled, each as AWS documents it: creation in the order of dependencies, rollback, the three deletion
policies, updates with rollback and clean-up, replacement of resources with custom names, import of existing
resources by a change set, termination protection, deletion protection of tables, names that are taken
(some across regions), SQS's minute without a name, log groups that API Gateway makes by itself, and API
Gateway's need of a role for logs. Which properties replace a resource and which types can be imported is read
from AWS's own resource schemas, which come with cfn-lint.

Not modelled: values, rights, quotas, nested stacks, stack policies, time (an operation takes a second).
"""

from tests.infra.cloudformation.cloud import Cloud, FailedError, Physical
from tests.infra.cloudformation.stacks import CloudFormation, RefusedError, Stack
from tests.infra.cloudformation.templates import Document, order

__all__ = ["Cloud", "CloudFormation", "Document", "FailedError", "Physical", "RefusedError", "Stack", "order"]
