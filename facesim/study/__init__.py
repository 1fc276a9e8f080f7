"""Runs jobs one after another, and turns the end of each into its result.

runner       submits each job and follows it to its end
observers    what is told how a study goes; progress: the display on the terminal
result       what training found, what was measured and what it costs become `result.json`
calibration  an instance type, measured by a job of its own
"""
