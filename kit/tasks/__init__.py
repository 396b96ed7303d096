"""Tasks: what is predicted in a window. The challenge's six, and anybody's own."""

from kit.tasks.base import TASKS, Task, TaskWindow, find_task, register
from kit.tasks.challenge import CATEGORY, CHALLENGE, CHURN, CONVERSION, NEW_SKU, PRICE, SKU

__all__ = [
    "CATEGORY",
    "CHALLENGE",
    "CHURN",
    "CONVERSION",
    "NEW_SKU",
    "PRICE",
    "SKU",
    "TASKS",
    "Task",
    "TaskWindow",
    "find_task",
    "register",
]
