"""Bring up the tasks of a cluster on a host and keep them alive. Knows nothing of what the tasks compute.

topology    roles and addresses -> each task's TF_CONFIG
plan        what one host has to run, as data
node        the entry point that every host runs: reads a plan, runs it, reports events
supervisor  starts, watches and ends a host's tasks in the right order
task        one task's process: log, environment, death with its parent
surroundings  what a process finds around it: its environment, where it imports from
failure     why a task failed, in words
isolation   a private network namespace where the system allows one
processes   starts a node on this machine and follows it
forked      nodes that fork_server, a process that has loaded what they need, forks
lifeline    a process ends with its parent; pulse: what hangs is noticed
timers      what is to be done when; faults, network: what is done to tasks on purpose
clock       time that only goes forward
hosted/     a host of a SageMaker job
containers/ executes a CreateTrainingJob request on this machine, a container a host
"""
