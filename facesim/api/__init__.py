"""facesim from Python: what the command line does, as functions and objects for scripts and notebooks.

>>> import facesim
>>> run = facesim.run(model="compact-cnn", epochs=1, image_size=32, output="runs", observers=[])
>>> run.state, run.verdict
('Completed', 'single')

Everything here is reached from `facesim` itself, and imported when it is first used. Options are those of the command
line, with `_` for `-` and without the dashes: `learning_rate=0.001`. What is wrong with one is an `InputError`, whose
`field`, `value`, `allowed` and `remedy` say so to programs.
"""

from facesim.api.comparison import Comparison, compare
from facesim.api.forecasting import forecast
from facesim.api.planning import Plan, plan
from facesim.api.runs import Run, load
from facesim.api.study import Study, run
from facesim.api.tuning import Tuning, tune
from facesim.recognition.recognizer import Recognizer
from facesim.study.observers import EndRun, JsonLines, Observer
from facesim.tracking.observer import Tracking

__all__ = [
    "Comparison", "EndRun", "JsonLines", "Observer", "Plan", "Recognizer", "Run", "Study", "Tracking",
    "Tuning", "compare", "forecast", "load", "plan", "run", "tune",
]  # fmt: skip
