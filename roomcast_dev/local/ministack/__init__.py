"""MiniStack, which plays DynamoDB, SQS and Secrets Manager."""
