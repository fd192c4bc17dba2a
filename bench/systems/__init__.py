"""The systems that are compared, one file for each.

contract.py   the interface of a system, and how it is deployed
programs.py   finds programs and virtual environments, and their versions
registry.py   all systems, in the order of the tables
target.py     starts a system, waits for its first answer, and ends it
accounts.py   the accounts section of the gateway's configuration, and its database
"""
