"""How well a saved model recognises, and using it.

protocols   closed set, identification, verification: NumPy on predictions and embeddings, no model needed
pairs       which images to compare: identity-disjoint folds, or a file of LFW's
groups      error rates by group of people
embedding   images -> embeddings, by a run's saved model
calibration thresholds for a false accept rate, of pairs and of strangers to a gallery
assess      a run's model on data, by all of these -> evaluation.json
reliance    what that says of the model's answers
recognizer  a run's model, to use
sorting     photographs sorted by person
"""
