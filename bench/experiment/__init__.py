"""Presets, selection of fits, schedules of jobs, and the execution of a run."""
