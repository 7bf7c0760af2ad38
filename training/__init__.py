"""Networks, objectives and the one loop that trains them."""

from training.waiting import wait_briefly

wait_briefly()  # before anything below here imports torch
