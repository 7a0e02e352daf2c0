"""The local run compared with what people use today: see `bench/local_gateway.py`."""
