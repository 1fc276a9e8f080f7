"""What the frameworks share because Keras builds their networks: the network, the schedule, the state that is kept."""
