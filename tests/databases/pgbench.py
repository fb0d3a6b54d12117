# SPDX-License-Identifier: Apache-2.0
"""What pgbench's transactions keep true, whoever holds them."""

# Each transaction adds one amount to an account, a teller and a branch, and notes it: four sums that must be equal, and how many were noted.
SUMS = """SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
    (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history), (SELECT count(*) FROM pgbench_history)"""
