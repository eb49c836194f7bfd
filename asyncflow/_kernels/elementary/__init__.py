"""Correctly rounded exp, log and pow."""
