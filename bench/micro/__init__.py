"""What the pure parts of the path cost, each alone, in instructions: a change to one of them shows within a minute.

`make bench` says what a request costs in truth, but the noise of a machine is larger than most changes are. The same
files and parts give the same count to a thousandth, and the row says which part has changed. A change elsewhere, or another
choice of parts, moves where things lie in the heap, which shifts rows that copy bodies by one to five hundredths.
"""
