"""Meters requests and changes accounts. (Contract §7, §8.)"""
