-- The same POST as the other senders make, but for the signature, which is only as long.
wrk.method = "POST"
wrk.body = '{"event": "dashboard:update", "data": {"text": "' .. string.rep("x", 180) .. '"}, "timestamp": "2026-01-01T00:00:00.000Z", "id": "01947416-2a40-7c2e-a2f1-5b0c6d7e8f90"}'
wrk.headers["x-amz-date"] = "20260101T000000Z"
wrk.headers["authorization"] = "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/execute-api/aws4_request, SignedHeaders=host;x-amz-date, Signature=" .. string.rep("0", 64)
