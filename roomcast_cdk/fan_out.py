"""Fan-out: the queue that takes large sends, its worker, and where jobs go that cannot be done."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from roomcast_cdk import server_events
from roomcast_cdk.findings import accept
from roomcast_cdk.function import Function
from roomcast_cdk.shared import Shared
from roomcast_cdk.tables import Tables
from roomcast_cdk.websocket_api import WebSocketApi

_TIMEOUT_SECONDS = 120
_MEMORY_MB = 1769
"""One vCPU: a worker signs and posts hundreds of messages a second, and enumerates a broadcast in one run."""
_RECEIVES = 5
"""AWS's advice for a queue that Lambda reads: fewer, and a moment's throttling looks like a bad job."""


class FanOut(Construct):
    """The fan-out queue and its worker.

    Attributes:
        queue: takes jobs from any backend.
        dead_letters: keeps the jobs that could not be done, for 14 days.
        worker: the function.
    """

    def __init__(
        self, scope: Construct, id_: str, *, shared: Shared, tables: Tables, api: WebSocketApi
    ) -> None:
        super().__init__(scope, id_)
        stage, key = shared.stage, shared.key
        encryption = sqs.QueueEncryption.KMS if key else sqs.QueueEncryption.SQS_MANAGED
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            retention_period=cdk.Duration.days(14),  # SQS's longest
            encryption=encryption,
            encryption_master_key=key,
            enforce_ssl=True,
            removal_policy=shared.removal,
            # By its name: the queue itself refers to this one.
            redrive_allow_policy=sqs.RedriveAllowPolicy(
                source_queues=[
                    sqs.Queue.from_queue_arn(
                        self,
                        "Source",
                        cdk.Stack.of(self).format_arn(service="sqs", resource=stage.queue_name),
                    )
                ]
            ),
        )
        self.queue = sqs.Queue(
            self,
            "Queue",
            queue_name=stage.queue_name,
            # Six times the function's timeout, as Lambda asks for: below it a job may run twice at once.
            visibility_timeout=cdk.Duration.seconds(6 * _TIMEOUT_SECONDS),
            # Much longer than all receives take together (an hour), so that a job ends in the dead-letter
            # queue and is never lost on the way there.
            retention_period=cdk.Duration.days(1),
            encryption=encryption,
            encryption_master_key=key,
            enforce_ssl=True,
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=_RECEIVES),
        )
        self.worker = Function(
            self,
            "Worker",
            name="Fanout",
            shared=shared,
            description="Posts a large send, job by job.",
            environment=tables.environment
            | server_events.environment(stage)
            | stage.environment("worker")
            | {
                "WEBSOCKET_API_ENDPOINT": api.callback_url,
                "WEBSOCKET_FANOUT_QUEUE_URL": self.queue.queue_url,
            },
            timeout=_TIMEOUT_SECONDS,
            memory_mb=_MEMORY_MB,
        )
        role = self.worker.role
        iam.Grant.add_to_principal(
            grantee=role,
            actions=[
                "sqs:ChangeMessageVisibility",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:ReceiveMessage",
                "sqs:SendMessage",
            ],
            resource_arns=[self.queue.queue_arn],
        )
        tables.grant_connections(role, "BatchGetItem", "DeleteItem", "Scan", "UpdateItem")
        tables.grant_rooms(role, "BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem")
        tables.grant_history(role, "GetItem", "PutItem", "Query", "UpdateItem")
        api.grant_manage_connections(role, "POST")
        server_events.grant_server_events(self, role, stage=stage, tables=tables)
        # What clients publish in a large room goes over the queue, and who comes and goes is told by it.
        for function in api.functions:
            function.function.add_environment("WEBSOCKET_FANOUT_QUEUE_URL", self.queue.queue_url)
            iam.Grant.add_to_principal(
                grantee=function.role, actions=["sqs:SendMessage"], resource_arns=[self.queue.queue_arn]
            )
        mapping = lambda_.EventSourceMapping(
            self,
            "Mapping",
            target=self.worker.target,
            event_source_arn=self.queue.queue_arn,
            batch_size=1,  # jobs are large already, and a worker's pace is for one at a time
            report_batch_item_failures=True,
            # Workers times the pace of each stays under the stage's share of the account's requests.
            max_concurrency=stage.fanout_concurrency,
        )
        mapping.node.add_dependency(role)
        accept(
            mapping,
            "The queue keeps what fails, and moves it to the dead-letter queue.",
            "Serverless-LambdaEventSourceMappingDestination",
        )
        accept(self.dead_letters, "It is the dead-letter queue.", "Serverless-SQSRedrivePolicy")
        for queue in (self.queue, self.dead_letters):
            shared.encrypted(queue, "CKV_AWS_27")
