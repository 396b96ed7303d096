"""Leaving blocks out of a recipe or a submission: what is each of them worth?"""
