"""The systems that are compared: one small file for each, and one that starts them.

contract.py   what a system tells of itself, and what it is told of the place where it shall stand
programs.py   where programs and environments are, and what they say of their version
field.py      all of them, in the order of the tables
target.py     starting one, waiting for its first answer, and ending it
"""
