"""The stand-in: plays API Gateway for one WebSocket API."""
