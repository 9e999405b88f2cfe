"""The engine of the first wave; it goes once the manager feeds the new one."""
