"""The paper's method: arrays in, arrays out; and the job that sets it."""
