"""The processes with M = 1, as in Shen & Kuusela (2026): there a bound cuts many regions."""

from bench.tasks.gaussian_process import gp, student_t
from bench.tasks.sis import SIS

sis_1 = SIS("sis-1", observations=1)
gp_1 = gp("gp-1", observations=1)
student_t_1 = student_t("student-t-1", observations=1)
