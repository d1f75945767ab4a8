# Deploying by one command (docs/deploy.md); the Makefile includes this.
DEPLOY = PATH="$$PATH:$(abspath .venv-sam/bin)" PYTHONPATH=docs $(BIN)/python -m deploy $@ $(if $(DRY),--dry) $(if $(YES),--yes)

.PHONY: deploy undeploy

deploy: $(READY) $(SAM_READY) ## deploy the stack and Google's side as deploy.env says (DRY=1: only print; YES=1: ask nothing)
	@$(DEPLOY)

undeploy: $(READY) $(SAM_READY) ## delete the stack and Google's trust in it; both buckets stay
	@$(DEPLOY)
