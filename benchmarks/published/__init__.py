"""Published measurements that the forecast is judged on, by the form of their rows; one module for each kind.

curves        a forecast beside what was measured, errors, regret and coverage
async_ps      asynchronous parameter servers: speed by workers and servers
synchronous   synchronous parameter servers, and several GPUs of one host
allreduce     sums of gradients over the network
transient     whole jobs on clusters that may lose hosts: time and cost
calibrate     fits the constants, with each model left out in turn
"""
