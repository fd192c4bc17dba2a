"""Accounts at work: who calls, what a request may cost and did cost, and what an operator changes. (Contract §7, §8.)"""
