"""A Kubernetes cluster as the place where a job runs: its hosts are the pods of a JobSet.

manifests  a job as the documents that run it: what a dry run prints
client     the cluster as the user's own configuration names it; what it refuses, in words that say what to do
storage    the persistent volume claim, through a pod that has it mounted: data go there, results come home
storage_s3 a folder in S3 in place of the claim
in_pod     what pods do then: they fetch before their host starts, and keep what it writes
pods       what the pods of a job are at, and what keeps them from starting
job        a job from its creation until it is home
backend    the verbs
"""
