"""Where an enclave gets its own Evidence from: the devices of its TEE, and what they have in common."""
