"""Runs jobs one after another, and turns the end of each into its result.

plan         which jobs are to be run: what has completed is not repeated
job_pool     jobs at the same time
study_file   the file from which a study continues
runner       submits each job and follows it to its end
observers    they hear how a study goes
progress     an observer: the display on the terminal
time_left    the time until a study's end
result       what training found, what was measured and what it costs become `result.json`
calibration  an instance type, measured by a job of its own
"""
