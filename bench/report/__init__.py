"""Comparison report: saved results as frames, figures, tables and one page.

It only reads results and never trains.
"""
