"""Rules of deployments, routes and model packages; standard library only."""
