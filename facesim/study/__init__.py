"""Runs jobs one after another, and turns the end of each into its result.

plan         which jobs are to be run: what has completed is not repeated
crew         jobs at the same time; kept: the file from which a study continues; left: the time until its end
runner       submits each job and follows it to its end
observers    what is told how a study goes; progress: the display on the terminal
result       what training found, what was measured and what it costs become `result.json`
calibration  an instance type, measured by a job of its own
"""
