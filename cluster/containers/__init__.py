"""Executes a CreateTrainingJob request on this machine, a container a host.

job        the request from its start to its end
host       one host as a container; opt_ml: /opt/ml as it finds it
transfer   what it copies between its store and the hosts' folders
engine     the container engine, and that nothing of ours is left in it
bandwidth  what a host may send
"""
