"""Settings found by trying: Optuna proposes, facesim trains and tests on a validation part of the training images.

The images that are held out to say how well a network recognises are in no trial, neither to train nor to test on.
"""
