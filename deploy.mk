# Deploying by one command (docs/deploy.md); the Makefile includes this.
DEPLOY = PATH="$$PATH:$(abspath .venv-sam/bin)" PYTHONPATH=docs $(BIN)/python -m deploy $@ $(if $(DRY),--dry) $(if $(YES),--yes)

.PHONY: deploy undeploy

deploy: $(READY) $(SAM_READY) ## deploy the stack and Google's side by deploy.env (DRY=1: only print; YES=1: do not ask)
	@$(DEPLOY)

undeploy: $(READY) $(SAM_READY) ## delete the stack and its grants at Google; both buckets stay
	@$(DEPLOY)
