"""What makes a process a host of a SageMaker job, at AWS or in a container here.

contract    the files under /opt/ml that tell a host what it is part of, and by which it answers
host_watch  how the other hosts notice that the first one has ended
log_relay   logs and samples that outlive the host
cgroup      what the container may use
"""
