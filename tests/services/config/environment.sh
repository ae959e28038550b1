# To be sourced. AiiDA's folder and the SSH keys are those of a home of their own; yours is left alone.
unset AIIDA_PATH AIIDA_PROFILE
export HOME=$FOLDER/home
export PGHOST=localhost PGPORT=$POSTGRESQL_PORT PGUSER=aiida PGPASSWORD=aiida
export AIIDA_BROKER_PORT=$RABBITMQ_PORT
export SLURM_CONF=$FOLDER/slurm/slurm.conf
