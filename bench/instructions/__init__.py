"""Counts the instructions of a whole system in user space, for each request and each streamed event.

Unlike times they hardly depend on the machine or on what else runs on it, so a budget can hold them. The system runs under
callgrind; between two kinds of work its profile is written and set to zero. Whatever is sent to it is sent only when its loop
waits for something: what came while it is still busy would now and then share a turn with what it does anyway.
"""
