"""Where a job runs. `facesim.spec.backends` names the backends."""
