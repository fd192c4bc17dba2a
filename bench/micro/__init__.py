"""Microbenchmarks: count the instructions of each pure part of the request path, in a minute.

`make bench` measures the true cost of a request, but the noise of a machine is larger than most changes. Here the same
files and cases give the same count within 0.1 %, and the row tells which part has changed. A change elsewhere, or another
selection of cases, moves objects in the heap; that shifts the rows that copy bodies by 1 to 5 %.
"""
