"""Runs handler code in worker processes as Lambda does."""
