"""A small client of AWS's JSON services: what a function needs, without botocore's import.

It knows nothing of retries and of what is asked: `roomcast.aws` has the one policy. Its methods, arguments,
answers and the `response` of its errors are those of botocore's clients.
"""
