"""One machine or a cluster, which, for how long and how much, how sure: asked of the forecast, before anything is paid.

quantities  durations, dollars and ranges as people write them
search      all shapes of a question -> `Plan`: the cheapest, the fastest, the front, where more hosts stop to pay
planner     `plan_training`: the plan that a user asks for
accuracy    what accuracy a shape reaches, where runs show it
answer      a plan in words, and as JSON
explain     the arithmetic of one shape, step by step
plots, page the plan as one HTML file
described   the jobs that run directories, TOML files and options describe
jobs        from a job to its forecast, and to a run directory whose numbers are all forecast
expectations  what jobs that are about to run are forecast to take
profiles    which profile a forecast is made from
learning    what forecasts learn from runs
saved       what was learnt, kept for later forecasts
"""

#: Strategies that a plan tries where none are named; the others gain nothing where hosts compute on their processors.
#: It is here so that the command's help need not import the search.
TRIED = ("single", "ps-async", "ps-sync", "allreduce", "local-sgd")
