"""The door for Lambda: what the handlers in `lambdas/` call."""
