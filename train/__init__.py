"""Training, mapped over the devices by `pmap`; each program is run as `python -m train.NAME`."""
