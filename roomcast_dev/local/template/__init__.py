"""Reads what the local run plays from a synthesized CloudFormation template."""
