"""What a run leaves on disk, each file written and read by one definition.

states     where a run is in its life, how it can end, and SageMaker's words for both
record     what every record is read and written by
records    outcome.json, result.json, evaluation.json
forecasts  forecast.json: what was forecast of a run before it began
events     events.jsonl: a type for each kind of event
directory  the run directory: the only code that knows its file names
claim      who runs a run: one command at a time
audit      did the replicas train together, by what was counted and measured
accounting what failures cost, by events
messages   events in words
"""
