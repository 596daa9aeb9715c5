"""Jobs in processes of their own."""

from uoro.lab.jobs.job import Done as Done
from uoro.lab.jobs.job import Job as Job
from uoro.lab.jobs.job import JobSettings as JobSettings
from uoro.lab.jobs.job import Report as Report
from uoro.lab.jobs.job import Results as Results
from uoro.lab.jobs.pool import cores as cores
from uoro.lab.jobs.pool import execute as execute
