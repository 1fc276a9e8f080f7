"""Settings found by trying: Optuna, or SageMaker's tuner, proposes; facesim trains, and tests on a validation part of
the training images.

The images that are held out to say how well a network recognises are in no trial, neither to train nor to test on.
"""

#: The file in the folder of a search by SageMaker's tuner that names its tuning job.
TUNING_JOB = "tuning_job.json"
