"""An AWS-shaped endpoint on this machine: training jobs that are created there really run, in containers.

S3, STS, IAM, CloudWatch and CloudWatch Logs are moto's; SageMaker's training and tuning jobs are this package's. A
client needs `AWS_ENDPOINT_URL` and nothing else. It keeps everything in memory, and nobody has to prove who he is: it
is for tests and demonstrations on a machine of one's own.

endpoint    starts and ends it
jobs        Create, Describe, Stop, List: a job's life and its times as SageMaker tells them
tuning      the same of hyperparameter tuning jobs
publishing  what hosts print and use becomes CloudWatch Logs and metrics, as SageMaker normalises them
storage     a job's S3 addresses
"""
