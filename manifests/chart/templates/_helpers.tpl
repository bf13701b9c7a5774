{{- /* Labels of every object: (list $ COMPONENT). */}}
{{- define "cvji.labels" -}}
{{- $root := index . 0 -}}
app: cv-job-informer
app.kubernetes.io/name: cvji
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: cloudvision
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* name, labels and annotations: (list $ NAME COMPONENT [ANNOTATIONS]). */}}
{{- define "cvji.metadata" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
labels:
  {{- include "cvji.labels" (list $root (index . 2)) | nindent 2 }}
{{- $annotations := dict }}
{{- if gt (len .) 3 }}{{ $annotations = index . 3 }}{{ end }}
{{- with merge dict $annotations $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The same with the release's namespace. */}}
{{- define "cvji.namespaced" -}}
{{ include "cvji.metadata" . }}
namespace: {{ (index . 0).Release.Namespace }}
{{- end }}

{{- /* A pod's metadata: (list $ COMPONENT VALUES). The first four labels never change: selectors and older pods have them. */}}
{{- define "cvji.podMetadata" -}}
{{- $root := index . 0 -}}
labels:
  app: cv-job-informer
  app.kubernetes.io/name: cvji
  app.kubernetes.io/component: {{ index . 1 }}
  app.kubernetes.io/part-of: cloudvision
  {{- with merge dict (index . 2).podLabels $root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge dict (index . 2).podAnnotations $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* What selects the pods of a component. */}}
{{- define "cvji.selector" -}}
app: cv-job-informer
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- /* Where a component's pods may run: (list $ VALUES). */}}
{{- define "cvji.placement" -}}
{{- $root := index . 0 -}}
{{- $values := index . 1 -}}
nodeSelector:
  {{- merge (dict "kubernetes.io/os" "linux") $values.nodeSelector | toYaml | nindent 2 }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "cvji.image" -}}
image: {{ with .Values.image }}{{ if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- /* The pod's and the container's securityContext without any privilege: the restricted Pod Security Standard. */}}
{{- define "cvji.unprivilegedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}
{{- define "cvji.unprivilegedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* What both components log. */}}
{{- define "cvji.logEnv" -}}
- name: LOG_LEVEL
  value: {{ .Values.log.level }}
- name: LOG_FORMAT
  value: {{ .Values.log.format }}
{{- end }}

{{- /* Binds a role to a component's account: (list $ KIND NAME ACCOUNT). */}}
{{- define "cvji.roleRef" -}}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ index . 1 }}
  name: {{ index . 2 }}
subjects:
  - kind: ServiceAccount
    name: {{ index . 3 }}
    namespace: {{ (index . 0).Release.Namespace }}
{{- end }}

{{- /* The informer's requests and limits by the size of the cluster; docs/operating.md#sizing says what they rest on. */}}
{{- define "cvji.informerResources" -}}
{{- $memory := dict "small" (list "100m" "96Mi" "256Mi") "medium" (list "100m" "192Mi" "512Mi") "large" (list "250m" "384Mi" "1Gi") -}}
{{- $chosen := get $memory .size -}}
{{- with .resources }}
{{- toYaml . }}
{{- else -}}
requests:
  cpu: {{ index $chosen 0 }}
  memory: {{ index $chosen 1 }}
limits:
  memory: {{ index $chosen 2 }}
{{- end }}
{{- end }}

{{- define "cvji.nodeRestriction" -}}
{{- $wanted := .Values.discovery.nodeRestriction -}}
{{- if and (eq .Values.nodes.mode "discovery") (or (eq $wanted "always") (and (eq $wanted "auto") (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version))) }}true{{ end -}}
{{- end }}
