"""What facesim says to AWS: everything that imports boto3 or SageMaker's package is here, and loads it when it is used.

settings  the options that belong to an account: region, role, bucket, image, ...
session   clients of an account
advice    AWS' errors in words that say what to do
validation  a request checked by botocore's description of it, as AWS does
rules     what that description does not hold
names     an account's names, or placeholders that say so
policies  what has to be allowed
setup     role, bucket and repository, made where they are missing
registry  signing in to Amazon ECR
doctor    whether an account can run a job
as_code   a request as code that sends it without facesim
site      from settings to the place that a job runs at
storage   S3: uploads that are not repeated, downloads, archives unpacked safely
logs      CloudWatch Logs, followed
bill      what it may cost, and what AWS says that it did
calls     SageMaker: create, describe, stop
tuning    the same of hyperparameter tuning jobs
measured  CloudWatch's points as samples
results   what a job left in S3 becomes a run directory
job       one training job from its creation until it is home
"""
