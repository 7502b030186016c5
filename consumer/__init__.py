"""The worker side: reader, scheduler, executor, settler, pool."""
