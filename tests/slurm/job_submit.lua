-- Rules that sites have, as their manuals tell them: a partition for GPU jobs alone, a comment that is demanded, an account that is rewritten.
function slurm_job_submit(job, partitions, uid)
  local gpus = (job.gres or "") .. (job.tres_per_node or "") .. (job.tres_per_job or "") .. (job.tres_per_task or "")
  if job.partition == "gpus" and not string.find(gpus, "gpu") then
    slurm.log_user("Partition gpus takes jobs with GPUs only")
    return slurm.ERROR
  end
  if job.partition == "told" and (job.comment or "") == "" then
    slurm.log_user("Tell your project: --comment=PROJECT")
    return slurm.ERROR
  end
  if job.account == "project-of-the-web-site" then
    job.account = "dev"
  end
  return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, uid)
  return slurm.SUCCESS
end

return slurm.SUCCESS
