"""Reporting: everything that a reviewer is told of a branch, gathered, published and posted on its pull request."""
